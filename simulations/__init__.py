"""Many sites on one machine: real public data cut into hospitals, and the loops that train over them."""
