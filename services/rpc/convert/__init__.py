"""What the services say to each other, to protobuf and back; the shared values are converted by
`limelight.convert`.
"""
