# All work is done by scripts; this file only names it. `make help` lists the targets.
arch := $(patsubst aarch64,arm64,$(patsubst x86_64,x64,$(shell uname -m)))
node := node_modules/node-linux-$(arch)/bin/node
export PATH := $(CURDIR)/node_modules/node-linux-$(arch)/bin:$(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: help run stop check test e2e crash-test conformance kubelet-test mixed bench bench-pull bench-stream setup install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  make run IMAGE=docker.io/library/nginx'
	@echo '  make conformance FOCUS="Image Manager" HANDLER=runc'

run: ## install what is missing, build, start the daemon and run a pod (IMAGE=)
	@sh test/setup/setup.sh run
	@$(node) test/run/up.ts $(IMAGE)

stop: ## end what make run started and take away all that it set up
	@$(node) test/run/down.ts

check: ## generated code, types, lint, format and unit tests, under a minute
	@npm run --silent check

test: ## set up everything and run all tests
	@sh test/setup/setup.sh test
	@$(node) test/run/all.ts

e2e: ## only the end-to-end tests (FILE= for some, by substring)
	@$(node) test/run/all.ts --only e2e $(FILE)

crash-test: ## the crash tests in their full length, about 15 minutes (FILE= for some)
	@sh test/setup/setup.sh test
	@CRASH_LONG=1 $(node) test/run/all.ts --only crash $(FILE)

conformance: ## critest with both runtimes (FOCUS= and HANDLER= narrow it)
	@sh test/setup/setup.sh test
	@FOCUS='$(FOCUS)' HANDLER='$(HANDLER)' $(node) test/conformance/run.ts

kubelet-test: ## a real kubelet with static pods on the daemon (PLACE=CRI or cAdvisor for one of two)
	@sh test/setup/setup.sh test
	@$(node) test/kubelet/run.ts $(PLACE)

mixed: ## two hours of the daemon and podman in one store (MIXED_MINUTES=)
	@sh test/setup/setup.sh test
	@npm run --silent build
	@MIXED_MINUTES=$(or $(MIXED_MINUTES),120) $(node) test/run/main.ts $(node) --test test/e2e/store-mixed.test.ts

bench: ## measure every call against the same programs run by hand
	@sh test/setup/setup.sh test
	@$(node) test/bench/bench.ts

bench-pull: ## measure image pulls against podman and skopeo, on ext4 and tmpfs, about 8 minutes (ROUNDS=)
	@sh test/setup/setup.sh test
	@$(node) test/run/main.ts $(node) test/bench/pull.ts --rounds '$(or $(ROUNDS),3)'

bench-stream: ## measure exec, attach and port-forward: time, rate, leaks, memory of sessions
	@sh test/setup/setup.sh test
	@$(node) test/run/main.ts $(node) test/bench/stream.ts

setup: ## only install and build
	@sh test/setup/setup.sh test

install: ## build, and copy what runs to PREFIX=/usr/local, below DESTDIR=: docs/install.md
	@env -u PREFIX sh test/setup/setup.sh build # npm has a PREFIX of its own
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' $(node) scripts/install.ts

clean: ## remove what was built
	rm -rf build
