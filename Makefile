# Hearth. `make` lists the targets; `make run` and `make test` need nothing but Go.

GO      ?= go
BIN     := bin
# The model that `make run` serves; empty is the embedded one.
MODEL   ?=
# Where `make run` listens.
ADDR    ?= 127.0.0.1:8080
# The revision that `make bench-compare` compares with.
REF     ?= HEAD~1
# What the benchmarks of `make bench` match.
BENCH   ?= .
FUZZTIME ?= 1s
# Where the reference files are.
SHARED  ?= ../shared
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
STAGE   := .ci/stage

export CGO_ENABLED = 0
# The tag leaves out a codec of gin's that nothing here uses and that takes longer to compile than anything that is used.
export GOFLAGS := -tags=nomsgpack $(filter-out -tags=nomsgpack,$(GOFLAGS))

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/hearth and bin/hearth-bench
	@mkdir -p $(BIN)
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/hearth ./cmd/hearth-bench

.PHONY: run
run: build ## start the server (MODEL=file or folder, ADDR=host:port)
	$(BIN)/hearth serve $(if $(MODEL),'$(MODEL)') --addr $(ADDR)

.PHONY: test
test: ## unit, golden and vector tests
	$(GO) test ./...

# Tests in which goroutines share memory, of packages whose other tests would take the race detector minutes.
SHARING = ^Test(Device|Barrier|Crew|Load|Pool|Queue|Share|Meter|Tied|Fused)|Concurrent
# The other packages that have goroutines or serve them, but the commands.
RACING = ./engine ./engine/weights ./kvcache/... ./sessions/... ./server ./bench/load
# Tests that compare values, bytes or counts, one after the other, of what other tests run in the same goroutines.
COMPARING = Golden|Vectors|Transcripts|RestoredBitsOnTheCPU|PredictingLayers|LogitsOnGorgonia|MiniMaxM3|TooLongInput|ElementsAreCounted|OllamaNumPredict|AuthOnTheWire|ArchiveErrors|CachedTokens|StreamedCalls|OllamaClientCallsTools|ConvertArchitectures|ScaledCheckpoints|ConvertScaled|LogitsFile|Qwen3Next|CacheHoldsWhatIsNeeded|LoopAllocates|RandomOperations|DamagedBytes

.PHONY: check
check: ## everything that must hold of a commit, but the tests with official clients
	$(STAGE) format        test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	$(STAGE) modules       $(GO) mod tidy -diff
	$(STAGE) vet           $(GO) vet ./...
	$(STAGE) test          $(GO) test ./...
	$(STAGE) generated     $(MAKE) --no-print-directory generated
	$(STAGE) cross-builds  $(MAKE) --no-print-directory cross
	$(STAGE) purego        $(GO) test -short -tags purego ./hardware/... ./engine/model/...
	$(STAGE) race          env CGO_ENABLED=1 $(GO) test -race -short -skip '$(COMPARING)' -timeout 20m $(RACING)
	$(STAGE) race-workers  env CGO_ENABLED=1 $(GO) test -race -short -run '$(SHARING)' ./hardware/cpu ./engine/chat ./engine/tokenizer
	$(STAGE) fuzz          $(MAKE) --no-print-directory fuzz

.PHONY: generate
generate: ## write the generated code again
	$(GO) generate ./...

.PHONY: generated
generated: generate # then the tree must be what it was
	@git diff --exit-code --stat -- $$(git grep -lE '^// Code generated .* DO NOT EDIT\.$$' -- '*.go' '*.s') \
		|| { echo 'generated code is not current: run `make generate` and commit'; exit 1; }

# The platforms beside the one that the tests run on. Of linux/arm64 there is little that neither the tests nor the build for
# darwin/arm64 compile: it is only vetted, as every platform, where code differs between them.
PLATFORMS := linux/arm64 darwin/arm64 windows/amd64

.PHONY: cross
cross: ## build for other systems, and vet what differs between platforms
	@for p in $(filter-out $(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH),linux/amd64 $(PLATFORMS)); do \
		echo "$$p"; \
		export GOOS=$${p%/*} GOARCH=$${p#*/}; \
		case $$p in linux/*) ;; *) for command in hearth hearth-bench; do $(GO) build -o /dev/null ./cmd/$$command || exit 1; done ;; esac; \
		$(GO) vet ./hardware/... ./engine/weights ./kvcache/disk ./bench/load || exit 1; \
	done

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

.PHONY: e2e
e2e: build ## drive the real binary with OpenAI's official clients (needs node and npm)
	cd server/e2e && npm ci --silent --no-audit --no-fund && HEARTH_BIN=$(abspath $(BIN))/hearth HEARTH_SHARED=$${HEARTH_SHARED:-$(abspath ../shared)} $(GO) test -count=1 ./...

# The points that `make state` shows, such as 1,4; empty is all. COUNTS=-short takes a minute or two, as for every commit.
POINTS  ?=
COUNTS  ?=

.PHONY: state
state: build ## kill, break and move servers, and compare what they answer (POINTS=1,4 COUNTS=-short)
	$(GO) build -trimpath -o $(BIN)/ ./bench/state
	$(BIN)/state -hearth $(BIN)/hearth $(COUNTS) $(if $(POINTS),-points $(POINTS)) -json $(BIN)/state.json

.PHONY: golden
golden: ## copy the reference files that are part of the tree, and compare with all of them
	cp $(SHARED)/testdata/models/stories260K/stories260K-f32.gguf engine/embedded/
	HEARTH_SHARED_REQUIRED=1 $(GO) test -run 'Golden' ./...

.PHONY: asan
asan: ## kernel tests under the address sanitizer (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -asan -short -run 'Linear|Gemm|Prepare|Elementwise|SumSquares|MaxOf|Exp|Units|Latents|Rotate|Halves' -skip Allocat ./hardware/cpu

.PHONY: emulate
emulate: ## test the AVX-512 and AVX-VNNI kernels in an emulator, some minutes a level (needs Debian)
	hardware/cpu/testdata/emulate.sh

.PHONY: arm64
arm64: ## test hardware/quant and the kernels of arm64 in an emulator (needs qemu-user)
	@.ci/arm64

.PHONY: bench
bench: ## run the Go benchmarks that match BENCH
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: bench-compare
bench-compare: ## benchmark this tree against REF and print benchstat's verdict
	@.ci/bench-compare '$(REF)' '$(BENCH)'

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
