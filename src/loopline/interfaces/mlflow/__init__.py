"""The door for the stock `mlflow` client: experiments, runs, metrics, logged models and artifacts by URI."""
