// The sizes of lab3/presets.py: tokens along a side of a picture, tokens of a picture, codes; pixels along a side.
export const SIDE = 16;
export const TOKENS = SIDE * SIDE;
export const CODES = 1024;
export const PIXELS = 64;
