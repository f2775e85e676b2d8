"""What is measured and against what: data sets, suites, papers, records, verdicts. Never torch, mlflow or streamlit."""
