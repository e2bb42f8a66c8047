# Everything a person or CI does with Plait. `make` alone explains.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## A real Directus, an Airtable sandbox and the canonical database, mirrored live; Ctrl-C ends it
	@scripts/install demo
	cargo build --release
	target/release/plait demo

test: ## All tests, on the real Directus and on Postgres 15 and 18
	@scripts/install test
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@# They mostly wait: for a server, for Directus, for Airtable's pace.
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} cargo test --lib --bins
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-5} cargo test --test it

check: ## What needs no server: format, lints, unit tests
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test --lib

soak: ## MINUTES=10 of random people, faults and kills on the whole line; then all invariants, and memory
	@scripts/install test
	PLAIT_SOAK_MINUTES=$(or $(MINUTES),10) cargo test --test it -- --nocapture --exact soak::soak_ends_with_nothing_lost_and_no_more_memory

bench: ## Speed and memory against their bars; ONLY=name runs one, SCALE=0.02 is a smoke test
	@scripts/install demo
	cargo build --release
	@python3 -B scripts/bench $(ONLY:%=--only %) $(SCALE:%=--scale %) $(REPS:%=--reps %)
