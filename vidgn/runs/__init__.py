"""What every program needs: configuration, trainer, run folder, loggers, ranks."""
