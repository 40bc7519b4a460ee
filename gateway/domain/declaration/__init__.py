"""What `muster apply` reads: authorities, policies, profiles and applications as a person declares them (D28).

`shape` says which keys there are, `reading` turns text into that shape or into sentences about what is wrong, `nouns`
turns the shape into the product's nouns. Must never happen here: opening a file, reading the environment, hashing,
asking the store. Who comes in: `actions/configure` and the command line.
"""
