"""The tests are a package of their own, so that a distribution that brings `tests` along never stands in for them."""
