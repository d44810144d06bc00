"""What an evaluation shows: the HTML page, the table, published figures."""
