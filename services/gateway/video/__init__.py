"""`TrackVideo` in the gateway: media in, sessions with replicas, frames out, going on after cuts.

In the order of the flow: `reading` (config to `tasks`), `intake` (messages of the client), `media`
and `live` (what replicas get), `prompts` (what is tracked), `choice` (which objects are told),
`stream` (one stream over all its calls and sessions), `outbox` (messages to the client), `store`.
"""
