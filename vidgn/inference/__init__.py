"""Use a trained net: predict, explain, features, serve, export, publish."""
