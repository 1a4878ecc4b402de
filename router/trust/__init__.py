"""Who is who: certificates, keys and other secrets, from files and the environment.

`pem`: certificates and keys, checked; `watched`: files that others replace; `contexts`: TLS by
`ssl`; `listener`: an address that begins with TLS; `peer`: who the other end of a connection is;
`access`: how endpoints are reached; `secrets`: what is never shown.
"""
