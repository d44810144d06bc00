"""Videos labelled frame by frame: the three phases of A3360V."""
