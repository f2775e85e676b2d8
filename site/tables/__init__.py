"""Turn the read-model's frames into tables for the pages. The functions are pure, use no streamlit and escape nothing."""
