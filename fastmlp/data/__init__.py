"""Tables: read from files, prepared for a network, and predicted. Needs ``pip install 'fastmlp[cli]'``."""
