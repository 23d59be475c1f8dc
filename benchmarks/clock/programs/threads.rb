require "securerandom"
require "timeout"
begun = Process.clock_gettime(Process::CLOCK_MONOTONIC)
queue = Queue.new
threads = 6.times.map do |n|
  Thread.new do
    while (job = queue.pop) != :end
      sleep(rand)
      printf("%.6f %d %d %s\n", Process.clock_gettime(Process::CLOCK_MONOTONIC) - begun, n, job, SecureRandom.hex(4))
    end
  end
end
18.times { |job| queue << job; sleep 0.1 }
6.times { queue << :end }
threads.each(&:join)
t = Time.now
begin
  Timeout.timeout(90) { sleep }
rescue Timeout::Error
  puts "timeout #{(Time.now - t).round(2)}"
end
r, _w = IO.pipe
t = Time.now
p IO.select([r], nil, nil, 45), (Time.now - t).round(3)
t = Time.now
system("sleep 3")
puts (Time.now - t).round(1)
puts Time.now.utc, Process.pid, "text".hash, rand
t = Time.now
sleep 3600
printf("ruby asked 3600.000 passed %.3f\n", Time.now - t)
