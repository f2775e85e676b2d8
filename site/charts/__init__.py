"""Draw Plotly figures from frames. The functions are pure and do not use streamlit."""
