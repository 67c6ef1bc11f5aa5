import { workerData } from "node:worker_threads";
import { type ReaderSetup, runReader } from "./reader.ts";

runReader(workerData as ReaderSetup);
