"""What the product does by itself: nobody asked just now, and it must happen all the same.

A job is an async function that `serve` starts in its nursery and that ends only by cancellation; it outlives every
failure of what it works on.
Must never happen here: HTTP, a wait without a bound, a loop without a pause. Who comes in: `serve`.
"""
