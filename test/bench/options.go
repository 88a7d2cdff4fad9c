package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/test/bench/reference"
)

// The workloads.
const (
	workRead   = "read"
	workBatch  = "batch"
	workVerify = "verify"
	workCreate = "create"
	workUpdate = "update"
	workRotate = "rotate" // asked by nobody: what rotators do by themselves
)

// The parts of a run.
const (
	partRates  = "rates"
	partStart  = "start"
	partMemory = "memory"
)

// The vault, and another build of it that is measured beside it.
const (
	vaultServer = "vault"
	otherServer = "other"
)

var (
	requestWorkloads = []string{workRead, workBatch, workVerify, workCreate, workUpdate}
	allWorkloads     = append(slices.Clone(requestWorkloads), workRotate)
	allServers       = []string{
		reference.Constant, reference.Select, reference.Open, reference.Grouped, reference.Single, reference.Validated,
		reference.Bare, vaultServer,
	}
	allParts = []string{partStart, partRates, partMemory}
)

// options are what the command line says.
type options struct {
	workloads, servers, parts []string
	connections               []int
	rounds                    int
	warmup, time              time.Duration
	secrets                   int
	reads                     uint64
	starts                    int
	due, jobs                 int
	auth                      string
	vaultBin, against         string
	vaultEnv                  []string
	quiet                     int
	out, data                 string

	scale  bool
	bulk   int
	sealed int
}

// requests are the workloads that are requests to servers.
func (o *options) requests() []string {
	return slices.DeleteFunc(slices.Clone(o.workloads), func(w string) bool { return w == workRotate })
}

func (o *options) has(list []string, what string) bool { return slices.Contains(list, what) }

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var (
		workloads = flags.String("workloads", strings.Join(allWorkloads, ","), "which `workloads` to measure")
		servers   = flags.String("servers", strings.Join(allServers, ","), "which `servers` to measure; docs/benchmarks.md explains the letters")
		parts     = flags.String("only", strings.Join(allParts, ","), "which `parts` to run: the vault's start, the rates of all servers, the memory of the vault and of a rotator")
		conns     = flags.String("conns", "1,8,32,128", "how many `connections` to keep busy")
		env       = flags.String("vault-env", "", "`settings` to add to the vault's environment: NAME=VALUE, separated by spaces")
		quick     = flags.Bool("quick", false, "one short round: to see that everything works, not to learn numbers")
	)
	flags.IntVar(&o.rounds, "rounds", 3, "how often to measure each server in turn")
	flags.DurationVar(&o.time, "time", 3*time.Second, "how long to measure a server each time")
	flags.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "how long to make load before that")
	flags.IntVar(&o.secrets, "secrets", 1000, "how many secrets to read and update, one after the other")
	flags.Uint64Var(&o.reads, "reads", 1_000_000, "how many reads the vault's memory is measured over")
	flags.IntVar(&o.starts, "starts", 7, "how many starts of the vault to time")
	flags.IntVar(&o.due, "due", 8000, "how many secrets to rotate, each again as soon as it may be")
	flags.IntVar(&o.jobs, "jobs", 100_000, "how many jobs are queued while a rotator's memory is watched")
	flags.StringVar(&o.auth, "auth", "ip", "what the vault asks of readers: ip or ip+token")
	flags.IntVar(&o.quiet, "quiet", 100, "measure while others take at most this `percentage` of the processors: wait for it, and repeat what was disturbed")
	flags.StringVar(&o.vaultBin, "vault-bin", "", "the `program` to measure as the vault, in place of one built from cmd/api")
	flags.StringVar(&o.against, "against", "", "a `folder` with another build's api and sealkeep, as make build leaves them, to measure beside the vault")
	flags.StringVar(&o.out, "out", ".bench", "the `folder` for results.json and results.svg")
	flags.StringVar(&o.data, "data", "", "the `folder` below which PostgreSQL's data goes while the benchmark runs (default TMPDIR or /var/tmp)")
	flags.BoolVar(&o.scale, "scale", false, "measure how the size of the table tells, in place of everything else")
	flags.IntVar(&o.bulk, "bulk", 1_000_000, "with -scale: how many secrets of 3 versions to put around those that are read")
	flags.IntVar(&o.sealed, "sealed", 100_000, "with -scale: how many secrets to read in an order that looks random")
	if err := flags.Parse(args); err != nil {
		return nil, errors.Join(flag.ErrHelp, err)
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("there is no argument %q: everything is said by flags (see -help)", flags.Arg(0))
	}
	if *quick {
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		o.hurry(given)
	}
	o.vaultEnv = strings.Fields(*env)
	err := choose(&o.servers, "-servers", *servers, allServers)
	if o.against != "" {
		o.servers = append(o.servers, otherServer)
	}
	return o, errors.Join(
		err,
		choose(&o.workloads, "-workloads", *workloads, allWorkloads),
		choose(&o.parts, "-only", *parts, allParts),
		numbers(&o.connections, "-conns", *conns),
		o.check(),
	)
}

// hurry shortens what wasn't given.
func (o *options) hurry(given map[string]bool) {
	shorten := func(name string, set func()) {
		if !given[name] {
			set()
		}
	}
	shorten("rounds", func() { o.rounds = 1 })
	shorten("time", func() { o.time = time.Second })
	shorten("warmup", func() { o.warmup = 300 * time.Millisecond })
	shorten("reads", func() { o.reads = 20_000 })
	shorten("starts", func() { o.starts = 3 })
	shorten("due", func() { o.due = 2000 })
	shorten("jobs", func() { o.jobs = 2000 })
	shorten("bulk", func() { o.bulk = 20_000 })
	shorten("sealed", func() { o.sealed = 3_000 })
}

func (o *options) check() error {
	var errs []error
	for name, value := range map[string]int{"-rounds": o.rounds, "-secrets": o.secrets, "-starts": o.starts, "-due": o.due, "-jobs": o.jobs, "-bulk": o.bulk, "-sealed": o.sealed} {
		if value < 1 || value > 9_999_999 {
			errs = append(errs, fmt.Errorf("%s is 1 to 9999999", name))
		}
	}
	if o.secrets < batchSize {
		errs = append(errs, fmt.Errorf("-secrets is at least %d, the size of a batch", batchSize))
	}
	if o.quiet < 1 || o.quiet > 100 {
		errs = append(errs, errors.New("-quiet is 1 to 100"))
	}
	if o.time <= 0 || o.warmup < 0 || o.reads < 10 {
		errs = append(errs, errors.New("-time is more than 0, -warmup not less, -reads at least 10"))
	}
	if o.auth != "ip" && o.auth != "ip+token" {
		errs = append(errs, errors.New("-auth is ip or ip+token"))
	}
	return errors.Join(errs...)
}

// choose splits a list by commas, keeps the order of all, and refuses what isn't in it.
func choose(into *[]string, name, text string, all []string) error {
	chosen := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	for _, c := range chosen {
		if !slices.Contains(all, c) {
			return fmt.Errorf("%s: there is no %q; there are %s", name, c, strings.Join(all, ", "))
		}
	}
	for _, c := range all {
		if slices.Contains(chosen, c) {
			*into = append(*into, c)
		}
	}
	if len(*into) == 0 {
		return fmt.Errorf("%s is empty", name)
	}
	return nil
}

func numbers(into *[]int, name, text string) error {
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 || n > 10_000 {
			return fmt.Errorf("%s: %q is no number from 1 to 10000", name, field)
		}
		*into = append(*into, n)
	}
	slices.Sort(*into)
	*into = slices.Compact(*into)
	return nil
}
