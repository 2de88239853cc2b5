"""Values to messages of the contract and back, one module an area.

Converters convert: an unknown enum value is the only thing they refuse, as `InvalidRequest` at its
path. The rules for values are `limelight.validation`'s.
"""
