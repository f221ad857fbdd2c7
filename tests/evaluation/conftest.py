from hypothesis import settings

# A busy machine must not fail a property test.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
