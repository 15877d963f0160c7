// River, as ../peer.py drives it.  It fetches as many jobs as it may run, at
// most once in a millisecond; the batch means nothing to it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sys/unix"
)

// Of 100 jobs at the same time few want the database at the same time.
const connections = 20

var (
	ctx    = context.Background()
	silent = slog.New(slog.DiscardHandler)
)

type job struct {
	N int `json:"n"`
}

func (job) Kind() string { return "nothing" }

// Handler, and what it has seen: number of the job and time.
type worker struct {
	river.WorkerDefaults[job]
	lock    sync.Mutex
	count   int
	handled [][2]float64
}

func (w *worker) Work(_ context.Context, j *river.Job[job]) error {
	at := now()
	w.lock.Lock()
	defer w.lock.Unlock()
	w.handled = append(w.handled, [2]float64{float64(j.Args.N), at})
	if len(w.handled) == w.count {
		fmt.Println("done")
	}
	return nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Seconds of CLOCK_MONOTONIC.
func now() float64 {
	var ts unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return float64(ts.Sec) + float64(ts.Nsec)/1e9
}

func connect() *riverpgxv5.Driver {
	config, err := pgxpool.ParseConfig("")
	check(err)
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	check(err)
	return riverpgxv5.New(pool)
}

// Who enqueues says so to workers at most once in this time, too.
func client(config river.Config) *river.Client[pgx.Tx] {
	config.FetchCooldown = time.Millisecond
	config.Logger = silent
	made, err := river.NewClient(connect(), &config)
	check(err)
	return made
}

func initialize() {
	migrator, err := rivermigrate.New(connect(), &rivermigrate.Config{Logger: silent})
	check(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	check(err)
}

func fill(count int) {
	jobs := make([]river.InsertManyParams, count)
	for n := range jobs {
		jobs[n].Args = job{n}
	}
	_, err := client(river.Config{}).InsertManyFast(ctx, jobs)
	check(err)
}

func enqueue(count, gap int) {
	sender := client(river.Config{})
	times := make([][2]float64, count)
	for n := range times {
		called := now()
		_, err := sender.Insert(ctx, job{n}, nil)
		check(err)
		times[n] = [2]float64{called, now()}
		rest := float64(gap) * (1 + rand.Float64())
		time.Sleep(time.Duration(rest * float64(time.Millisecond)))
	}
	check(json.NewEncoder(os.Stdout).Encode(times))
}

func work(count, concurrency int) {
	w := &worker{count: count}
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	check(client(river.Config{
		Queues: map[string]river.QueueConfig{
			river.QueueDefault: {MaxWorkers: concurrency},
		},
		Workers: workers,
	}).Start(ctx))
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	check(err)
	w.lock.Lock()
	check(json.NewEncoder(os.Stdout).Encode(w.handled))
}

func main() {
	var numbers [3]int
	for n, argument := range os.Args[2:] {
		var err error
		numbers[n], err = strconv.Atoi(argument)
		check(err)
	}
	switch command := os.Args[1]; command {
	case "init":
		initialize()
	case "fill":
		fill(numbers[0])
	case "enqueue":
		enqueue(numbers[0], numbers[1])
	case "work":
		work(numbers[0], numbers[1])
	default:
		log.Fatal("no such command: ", command)
	}
}
