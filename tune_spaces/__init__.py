"""Search spaces and the searches over them."""
