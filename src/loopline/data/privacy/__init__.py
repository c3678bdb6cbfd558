"""Personal columns: found, settled by a person, treated; and subjects whose rows stay out."""
