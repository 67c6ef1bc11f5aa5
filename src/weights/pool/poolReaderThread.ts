import { workerData } from "node:worker_threads";
import { type PoolReaderSetup, runPoolReader } from "./poolReader.ts";

runPoolReader(workerData as PoolReaderSetup);
