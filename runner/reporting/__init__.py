"""Report results, publish and verify records, and check models before a pull request."""
