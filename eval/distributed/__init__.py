"""Out of one machine: a job's items are spread over Ray actors, an aligner in each."""
