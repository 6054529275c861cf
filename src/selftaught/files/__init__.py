"""The ground floor: how files of runs and studies are named, read, sealed and verified. Nothing here imports torch."""
