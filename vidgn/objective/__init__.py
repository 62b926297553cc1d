"""What the outputs of a net stand for, and what is minimized: targets, losses, a teacher's scores, the validation."""
