"""A render run: its driver, its scenes' attempts, what is committed."""
