"""What commands read and write: values of strangers within bounds, whole files, outputs that overwrite nothing."""
