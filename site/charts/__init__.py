"""Plotly figures from frames: pure functions, no streamlit."""
