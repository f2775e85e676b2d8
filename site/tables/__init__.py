"""Frames as they are shown: pure functions from the read-model's frames to tables. No streamlit, nothing escaped yet."""
