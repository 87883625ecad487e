"""What the engine costs, each figure a ratio of runs that alternated. `make bench` runs it all."""
