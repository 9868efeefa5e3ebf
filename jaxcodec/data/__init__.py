"""Pictures and photo sets: reading files of any kind, writing files safely, drawing crops."""
