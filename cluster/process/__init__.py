"""One worker process: started, watched, ended."""
