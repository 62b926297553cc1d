"""What is typed and what is shown: values of overrides, progress bars, escaped names, output that nobody reads."""
