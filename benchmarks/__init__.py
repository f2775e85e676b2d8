"""What is measured and against what: data sets, suites, papers, records, verdicts. It imports no torch, mlflow or streamlit."""
