"""The first job: data in, frozen weights out."""
