"""Teachers: models that look at one view and say what is there, behind three small interfaces."""
