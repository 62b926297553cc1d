"""The paper's comparison of norms in miniature: `python -m experiments.table8`; see README.md beside this file."""
