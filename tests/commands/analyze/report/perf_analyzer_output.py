"""What perf_analyzer 2.60 printed and wrote for the sample models of the demo, to the last blank.

A few figures are moved by some microseconds: it averages nanoseconds that it does not report (its HTTP time was 9 usec
less than its latency, its overhead 1 usec less than its parts leave); here all come from the figures of these lines.
"""

from __future__ import annotations

PLAIN = """\
*** Measurement Settings ***
  Batch size: 1
  Service Kind: TRITON
  Using "time_windows" mode for stabilization
  Stabilizing using average latency and throughput
  Measurement window: 400 msec
  Using synchronous calls for inference

Request concurrency: 1
  Client: \n\
    Request count: 123
    Throughput: 85.2522 infer/sec
    Avg latency: 11774 usec (standard deviation 815 usec)
    p50 latency: 11516 usec
    p90 latency: 12752 usec
    p95 latency: 12987 usec
    p99 latency: 14717 usec
    Avg HTTP time: 11774 usec (send/recv 182 usec + response wait 11592 usec)
  Server: \n\
    Inference count: 123
    Execution count: 123
    Successful request count: 123
    Avg request latency: 11088 usec (overhead 6 usec + queue 112 usec + compute input 34 usec + \
compute infer 10647 usec + compute output 289 usec)
Inferences/Second vs. Client Average Batch Latency
Concurrency: 1, throughput: 85.2522 infer/sec, latency 11774 usec
"""

VERBOSE_P95 = """\
*** Measurement Settings ***
  Batch size: 4
  Service Kind: TRITON
  Using "time_windows" mode for stabilization
  Stabilizing using p95latency and throughput
  Measurement window: 400 msec
  Latency limit: 0 msec
  Concurrency limit: 2 concurrent requests
  Using synchronous calls for inference

Request concurrency: 1
  Pass [1] throughput: 83.2307 infer/sec. p95 latency: 12436 usec
  Pass [2] throughput: 85.0013 infer/sec. p95 latency: 13067 usec
  Client: \n\
    Request count: 121
    Throughput: 83.8143 infer/sec
    Avg client overhead: 0.19%
    p50 latency: 11627 usec
    p90 latency: 12592 usec
    p95 latency: 12902 usec
    p99 latency: 13617 usec
    Avg gRPC time: 11781 usec (marshal 10 usec + response wait 11766 usec + unmarshal 5 usec)
  Server: \n\
    Inference count: 122
    Execution count: 122
    Successful request count: 122
    Avg request latency: 11398 usec (overhead 6 usec + queue 163 usec + compute input 38 usec + \
compute infer 10562 usec + compute output 629 usec)
Inferences/Second vs. Client p95 Batch Latency
Concurrency: 1, throughput: 83.8143 infer/sec, latency 12902 usec
"""

CACHED_SERVER = """\
  Server: \n\
    Inference count: 1
    Execution count: 1
    Cache hit count: 4674
    Cache miss count: 1
    Successful request count: 4675
    Avg request latency: 37 usec (overhead 2 usec + queue 2 usec + cache hit/miss 33 usec)
      Average Cache Hit Latency: 5 usec
      Average Cache Miss Latency: 131885 usec (cache lookup/insertion 58 usec + compute input 42 usec + \
compute infer 131640 usec + compute output 145 usec)
"""

PIPELINE_SERVER = """\
  Server: \n\
    Inference count: 1579
    Execution count: 1579
    Successful request count: 1579
    Avg request latency: 605 usec (overhead 9 usec + queue 64 usec + compute 532 usec)

  Composing models: \n\
  addsub, version: 1
      Inference count: 1579
      Execution count: 1579
      Successful request count: 1579
      Avg request latency: 300 usec (overhead 2 usec + queue 27 usec + compute input 18 usec + \
compute infer 213 usec + compute output 40 usec)
  identity, version: 1
      Inference count: 1579
      Execution count: 1579
      Successful request count: 1579
      Avg request latency: 305 usec (overhead 7 usec + queue 37 usec + compute input 14 usec + \
compute infer 172 usec + compute output 75 usec)
"""

METRICS = """\
  Server Prometheus Metrics: \n\
    Avg GPU Utilization:
    Avg GPU Power Usage:
    Max GPU Memory Usage:
    Total GPU Memory:
"""

RATE_SETTINGS = """\
*** Measurement Settings ***
  Batch size: 1
  Service Kind: TRITON
  Using "count_windows" mode for stabilization
  Stabilizing using average latency and throughput
  Minimum number of samples in each window: 20
  Latency limit: 15 msec
  Request Rate limit: 40 requests per seconds
  Using uniform distribution on request generation
  Using Binary Search algorithm
  Using synchronous calls for inference

"""

COUNT_SETTINGS = """\
*** Measurement Settings ***
  Batch size: 1
  Service Kind: TRITON
  Sending 5 warmup requests
  Sending 1 benchmark request
  Using asynchronous calls for inference

"""

HEADERS = {
    "plain": "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency",
    "verbose p95": "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,"
    "p99 latency,request/response,response wait",
    "cached": "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Server Cache Hit,Server Cache Miss,Client Recv,p50 latency,"
    "p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait",
    "metrics": "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,"
    "Avg latency,request/response,response wait,Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,"
    "Total GPU Memory",
    "decoupled": "Concurrency,Inferences/Second,Response Throughput,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,"
    "p99 latency",
    "rate": "Request Rate,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency",
    "composing": "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv",
}
