"""Pictures -> numbers: distances, scores of a decoding, sweeps over settings."""
