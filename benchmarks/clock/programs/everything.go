// Every clock, sleep, timer and source of chance of Go, once, or in four goroutines with the argument "threads".
package main

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"hash/maphash"
	"math/big"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

var lock sync.Mutex

func say(number int, what ...any) {
	lock.Lock()
	defer lock.Unlock()
	fmt.Println(append([]any{number}, what...)...)
}

func clocks(number int) {
	var seconds syscall.Timeval
	var usage syscall.Rusage
	var information syscall.Sysinfo_t
	syscall.Gettimeofday(&seconds)
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	syscall.Sysinfo(&information)
	now := time.Now()
	say(number, "dates", now, now.UnixNano(), now.Local(), seconds.Sec, seconds.Usec)
	say(number, "since", time.Since(now))
	say(number, "cpu", usage.Utime, usage.Stime)
}

func timed(number int, name string, asked float64, way func()) {
	begun := time.Now()
	way()
	say(number, fmt.Sprintf("%s asked %.3f passed %.3f", name, asked, time.Since(begun).Seconds()))
}

func sleeps(number int) {
	near, far := net.Pipe()
	defer far.Close()
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	defer listener.Close()
	connection, _ := net.Dial("tcp", listener.Addr().String())
	listener.Accept()
	one := make([]byte, 1)
	timed(number, "Sleep", 3600, func() { time.Sleep(time.Hour) })
	timed(number, "After", 7, func() { <-time.After(7 * time.Second) })
	timed(number, "WithTimeout", 9, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
		defer cancel()
		<-ctx.Done()
	})
	timed(number, "deadline of a pipe", 4, func() { near.SetReadDeadline(time.Now().Add(4 * time.Second)); near.Read(one) })
	timed(number, "deadline of a socket", 5, func() { connection.SetReadDeadline(time.Now().Add(5 * time.Second)); connection.Read(one) })
	timed(number, "Accept", 6, func() { listener.(*net.TCPListener).SetDeadline(time.Now().Add(6 * time.Second)); listener.Accept() })
	if number == 0 { // Beside others, it holds the only processor until Go's own watch takes it away.
		timed(number, "nanosleep", 1.5, func() {
			span := syscall.NsecToTimespec(1_500_000_000)
			syscall.Nanosleep(&span, nil)
		})
	}
	timed(number, "a child", 2, func() { exec.Command("sleep", "2").Run() })
	timed(number, "a child's timeout", 3, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		exec.CommandContext(ctx, "sleep", "60").Run()
	})
}

func timers(number int) {
	timed(number, "Ticker", 50, func() {
		ticker := time.NewTicker(10 * time.Second)
		defer ticker.Stop()
		for i := 0; i < 5; i++ {
			<-ticker.C
		}
	})
	timed(number, "AfterFunc", 12, func() {
		rung := make(chan bool)
		time.AfterFunc(12*time.Second, func() { rung <- true })
		<-rung
	})
	timed(number, "a timer that is reset", 20, func() {
		timer := time.NewTimer(time.Minute)
		timer.Reset(20 * time.Second)
		<-timer.C
	})
	timed(number, "three at once", 3, func() {
		var group sync.WaitGroup
		for _, seconds := range []int{3, 1, 2} {
			group.Add(1)
			go func() {
				defer group.Done()
				time.Sleep(time.Duration(seconds) * time.Second)
				say(number, "woke", seconds)
			}()
		}
		group.Wait()
	})
}

func chance(number int) {
	bytes := make([]byte, 8)
	crand.Read(bytes)
	large, _ := crand.Int(crand.Reader, big.NewInt(1<<40))
	device, _ := os.Open("/dev/urandom")
	defer device.Close()
	drawn := make([]byte, 8)
	device.Read(drawn)
	say(number, "random", rand.Float64(), rand.Intn(1000), rand.Perm(6), fmt.Sprintf("%x", bytes), large, fmt.Sprintf("%x", drawn))
	folder, _ := os.MkdirTemp("", "every-")
	defer os.Remove(folder)
	say(number, "ids", filepath.Base(folder), os.Getpid(), maphash.String(maphash.MakeSeed(), "text"))
	order := []int{}
	for key := range map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true} {
		order = append(order, key)
	}
	pick := make(chan int, 8)
	other := make(chan int, 8)
	for i := 0; i < 8; i++ {
		pick <- i
		other <- -i
	}
	for i := 0; i < 8; i++ {
		select {
		case n := <-pick:
			order = append(order, n)
		case n := <-other:
			order = append(order, n)
		}
	}
	say(number, "orders", order)
}

func everything(number int) {
	for _, part := range []func(int){clocks, chance, sleeps, timers, chance, clocks} {
		part(number)
	}
}

func main() {
	if len(os.Args) < 2 {
		everything(0)
		return
	}
	var group sync.WaitGroup
	for number := 1; number <= 4; number++ {
		group.Add(1)
		go func() { defer group.Done(); everything(number) }()
	}
	group.Wait()
}
