// A service whose heap stays large after a burst: of every hundred sessions one stays open, and holds its page.
//
// With a file's name as its argument it writes an execution trace there (Go 1.23 or later, GODEBUG=traceallocfree=1).
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/trace"
	"sync"
)

type session struct {
	id     int
	buffer [480]byte
}

type visit struct {
	session *session
	path    string
}

var (
	open   = map[int]*visit{}
	opened sync.Mutex
)

func handle(worker, number int) *visit {
	return &visit{session: &session{id: number}, path: fmt.Sprintf("/worker/%d/page/%d", worker, number)}
}

func work(worker, sessions int) {
	var burst []*visit
	for number := 0; number < sessions; number++ {
		burst = append(burst, handle(worker, number))
	}
	opened.Lock()
	defer opened.Unlock()
	for number, visit := range burst {
		if number%100 == 0 {
			open[worker*sessions+number] = visit
		}
	}
}

func main() {
	if len(os.Args) > 1 {
		file, err := os.Create(os.Args[1])
		if err != nil {
			panic(err)
		}
		defer file.Close()
		if err := trace.Start(file); err != nil {
			panic(err)
		}
		defer trace.Stop()
	}
	var workers sync.WaitGroup
	for worker := 0; worker < 4; worker++ {
		workers.Add(1)
		go func(worker int) {
			defer workers.Done()
			work(worker, 25000)
		}(worker)
	}
	workers.Wait()
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Printf("%d sessions are open: %.1f MB of objects in %.1f MB of heap\n",
		len(open), float64(stats.HeapAlloc)/1e6, float64(stats.HeapInuse)/1e6)
}
