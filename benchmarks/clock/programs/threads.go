package main

import (
	"crypto/rand"
	"fmt"
	mrand "math/rand"
	"net"
	"os"
	"sync"
	"time"
)

func main() {
	begun := time.Now()
	jobs := make(chan int)
	var group sync.WaitGroup
	for n := 0; n < 6; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			for job := range jobs {
				time.Sleep(time.Duration(mrand.Intn(1000)) * time.Millisecond)
				b := make([]byte, 4)
				rand.Read(b)
				fmt.Printf("%.6f %d %d %x\n", time.Since(begun).Seconds(), n, job, b)
			}
		}(n)
	}
	for job := 0; job < 24; job++ {
		jobs <- job
	}
	close(jobs)
	group.Wait()
	ticker := time.NewTicker(10 * time.Minute)
	for i := 0; i < 6; i++ {
		<-ticker.C
	}
	fmt.Printf("ticked %.3f\n", time.Since(begun).Seconds())
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 1)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					time.Sleep(time.Second)
					c.Write(b)
				}
			}()
		}
	}()
	c, _ := net.Dial("tcp", listener.Addr().String())
	b := make([]byte, 1)
	for i := 0; i < 3; i++ {
		c.Write([]byte("x"))
		c.Read(b)
	}
	t := time.Now()
	c.SetReadDeadline(t.Add(40 * time.Second))
	_, err := c.Read(b)
	fmt.Println(err != nil, time.Since(t).Round(time.Millisecond))
	select {
	case <-time.After(3 * time.Hour):
	}
	t = time.Now()
	time.Sleep(time.Hour)
	fmt.Printf("go asked 3600.000 passed %.3f\n", time.Since(t).Seconds())
	m := map[int]int{}
	for i := 0; i < 8; i++ {
		m[i] = i
	}
	for k := range m {
		fmt.Print(k, " ")
	}
	fmt.Println(time.Now().Unix(), os.Getpid())
}
