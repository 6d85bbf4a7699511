"""A front door that drags a heavy library along, though the configuration does not."""
