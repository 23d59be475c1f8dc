# Every clock, sleep, timer and source of chance of Ruby, once, or in four threads with the argument "threads".
require "io/wait"
require "monitor"
require "securerandom"
require "socket"
require "tempfile"
require "time"
require "timeout"
require "tmpdir"

$stdout.sync = true
SAY = Mutex.new
def say(number, *what) = SAY.synchronize { puts "#{number} #{what.join(' ')}" }
def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)

def clocks(number)
  %i[REALTIME MONOTONIC MONOTONIC_RAW BOOTTIME TAI PROCESS_CPUTIME_ID THREAD_CPUTIME_ID REALTIME_COARSE].each do |name|
    say number, name, Process.clock_gettime(Process.const_get("CLOCK_#{name}"), :nanosecond)
  end
  say number, "dates", Time.now.utc.iso8601(9), Time.now.to_s, Time.now.to_r, Process.times.to_a.join("/")
end

def timed(number, name, asked)
  begun = monotonic
  yield
  say number, format("%s asked %.3f passed %.3f", name, asked, monotonic - begun)
end

def sleeps(number)
  near, _far = UNIXSocket.pair
  timed(number, "sleep", 3600) { sleep 3600 }
  timed(number, "IO.select", 45) { IO.select([near], nil, nil, 45) }
  timed(number, "wait_readable", 6) { near.wait_readable(6) }
  timed(number, "Timeout", 90) { Timeout.timeout(90) { sleep } rescue Timeout::Error }
  timed(number, "Queue", 11) { Queue.new.pop(timeout: 11) }
  timed(number, "ConditionVariable", 4) { Mutex.new.then { |m| m.synchronize { ConditionVariable.new.wait(m, 4) } } }
  timed(number, "Mutex#sleep", 5) { Mutex.new.then { |m| m.synchronize { m.sleep(5) } } }
  timed(number, "Monitor", 8) { Monitor.new.then { |m| m.synchronize { m.new_cond.wait(8) } } }
  timed(number, "join", 7) { Thread.new { sleep 60 }.then { |t| t.join(7).tap { t.kill } } }
  timed(number, "a child", 3) { system("sleep 3") }
  timed(number, "waitpid", 2) { Process.wait(spawn("sleep 2")) }
end

def chance(number)
  say number, "random", rand, Random.rand(1000), Random.new.rand, Random.urandom(8).unpack1("H*"), [1, 2, 3, 4, 5].shuffle.join
  say number, "secure", SecureRandom.uuid, SecureRandom.hex(8), SecureRandom.random_number
  say number, "devices", File.binread("/dev/urandom", 8).unpack1("H*"), File.binread("/dev/random", 8).unpack1("H*")
  say number, "ids", "text".hash, :text.to_proc.hash, Process.pid, Object.new.object_id
  Dir.mktmpdir { |folder| say number, "folder", File.basename(folder) }
end

def everything(number)
  clocks(number)
  chance(number)
  sleeps(number)
  chance(number)
  clocks(number)
end

if ARGV == ["threads"]
  4.times.map { |n| Thread.new { everything(n) } }.each(&:join)
else
  everything(0)
end
