"""Where models go."""

from fastmlp.io.safetensors import load as load
from fastmlp.io.safetensors import save as save
