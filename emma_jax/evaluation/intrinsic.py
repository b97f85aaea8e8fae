"""x"""
BENCHMARK, ALONE, GIVEN, GIVEN_OTHER = "translation_gain", "bits_per_byte_alone", "bits_per_byte_given_source", "bits_per_byte_given_other_source"
