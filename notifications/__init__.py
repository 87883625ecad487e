"""Certificate alerts that are never silently dropped."""
