"""The readers behind `vidgn.data.video.open_video`; decoders are imported here and nowhere else."""
