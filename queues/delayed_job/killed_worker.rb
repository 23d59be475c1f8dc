# delayed_job 4.1: a job that takes its worker down is run again whatever `max_attempts` says.
#
#   apt-get install ruby-delayed-job-active-record ruby-pg
#   DATABASE_URL=postgresql://... ruby killed_worker.rb
#
# `max_attempts` is 1 and `max_run_time` 2 s in the place of the default of 4 hours. Each worker is a process of its own,
# as `bin/delayed_job run` is; the job kills it, as a system does that runs out of memory.
require "active_record"
require "delayed_job"
require "delayed_job_active_record"

ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
ActiveRecord::Base.connection.create_table(:delayed_jobs, force: true) do |table|
  table.integer :priority, default: 0, null: false
  table.integer :attempts, default: 0, null: false
  table.text :handler, null: false
  table.text :last_error
  table.datetime :run_at
  table.datetime :locked_at
  table.datetime :failed_at
  table.string :locked_by
  table.string :queue
  table.timestamps null: true
end

KillsItsWorker = Struct.new(:name) do
  def perform
    Process.kill(:KILL, Process.pid)
  end
end

Delayed::Worker.max_attempts = 1
Delayed::Worker.max_run_time = 2
Delayed::Worker.logger = Logger.new(File::NULL)
Delayed::Job.enqueue(KillsItsWorker.new("report"))

deaths = 0
4.times do
  Delayed::Worker.before_fork
  child = fork do
    Delayed::Worker.after_fork
    Delayed::Worker.new(quiet: true).work_off(1)
    exit!(0)
  end
  _, status = Process.wait2(child)
  deaths += 1 if status.signaled?
  ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
  job = Delayed::Job.first
  puts "runs so far: #{deaths}, of at most 1; the row: attempts #{job.attempts}, failed_at #{job.failed_at.inspect}"
  sleep 2.5
end
